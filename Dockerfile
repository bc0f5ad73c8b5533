# One image, two commands: `serve --no-worker` and `worker`. Needs NAVCRM_DATABASE_URL and NAVCRM_SECRET_KEYS.
FROM python:3.13-slim AS build
WORKDIR /src
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1
RUN python -m venv /opt/navcrm && python -m venv /opt/build
COPY requirements-runtime.lock requirements.lock ./
RUN /opt/navcrm/bin/pip install --require-hashes --no-deps -r requirements-runtime.lock
# The build backend comes from a lock too, so not from the environment that pip would make for it.
RUN /opt/build/bin/pip install --require-hashes --no-deps -r requirements.lock
COPY pyproject.toml README.md LICENSE ./
COPY app app
COPY alembic alembic
RUN /opt/build/bin/python -m hatchling build -t wheel && /opt/navcrm/bin/pip install --no-deps dist/*.whl

FROM python:3.13-slim
RUN useradd --system --uid 10001 --home-dir /var/lib/navcrm --create-home navcrm
COPY --from=build /opt/navcrm /opt/navcrm
ENV PATH=/opt/navcrm/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    NAVCRM_HOST=0.0.0.0 \
    NAVCRM_PORT=8000 \
    NAVCRM_LOG_FORMAT=json \
    NAVCRM_DATA_DIR=/var/lib/navcrm
USER navcrm
WORKDIR /var/lib/navcrm
EXPOSE 8000
STOPSIGNAL SIGTERM
# For the API; compose.yaml turns it off for the worker, whose sign of life is in the database (see /readyz).
HEALTHCHECK --interval=10s --timeout=3s --start-period=20s \
    CMD ["python", "-c", "import os, urllib.request as r; r.urlopen(f\"http://127.0.0.1:{os.environ['NAVCRM_PORT']}/healthz\", timeout=2)"]
ENTRYPOINT ["navcrm"]
CMD ["serve", "--no-worker"]
