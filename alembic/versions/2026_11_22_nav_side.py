"""The NAV side: records, tombstones, number series and figures of embedded companies."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "nav_0001"
down_revision = "memory_0001"
branch_labels = None
depends_on = None

TIMESTAMP = sa.DateTime(timezone=True)

# A version is drawn only while the company's advisory lock is shared, and the lock is kept until the
# transaction ends. So once nav_settled_version has had the lock to itself, every version up to the one it
# answers is committed or will never be.
FUNCTIONS = """
CREATE FUNCTION nav_stamp_record() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF TG_OP = 'UPDATE' AND NEW.fields = OLD.fields AND NEW.key = OLD.key AND NEW.touched = OLD.touched THEN
        NEW.modified_at := OLD.modified_at;
        IF NEW.integration_id IS NOT DISTINCT FROM OLD.integration_id THEN
            NEW.row_version := OLD.row_version;
            RETURN NEW;
        END IF;
    ELSE
        NEW.modified_at := clock_timestamp();
    END IF;
    PERFORM pg_advisory_xact_lock_shared(5151, NEW.company_id);
    NEW.row_version := nextval('nav_row_version');
    RETURN NEW;
END $$;

CREATE FUNCTION nav_stamp_tombstone() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM pg_advisory_xact_lock_shared(5151, NEW.company_id);
    NEW.row_version := nextval('nav_row_version');
    NEW.deleted_at := clock_timestamp();
    RETURN NEW;
END $$;

CREATE FUNCTION nav_settled_version(company integer) RETURNS bigint LANGUAGE plpgsql AS $$
BEGIN
    PERFORM pg_advisory_xact_lock(5151, company);
    RETURN (SELECT CASE WHEN is_called THEN last_value ELSE 0 END FROM nav_row_version);
END $$;

CREATE TRIGGER nav_record_stamp BEFORE INSERT OR UPDATE ON nav_record
    FOR EACH ROW EXECUTE FUNCTION nav_stamp_record();

CREATE TRIGGER nav_tombstone_stamp BEFORE INSERT OR UPDATE ON nav_tombstone
    FOR EACH ROW EXECUTE FUNCTION nav_stamp_tombstone();
"""

# Until a table is first analysed, PostgreSQL guesses that every index on it is as good as any other, and a
# first load runs through whole tables for each key. So it sees a sample of what the tables will look like.
SAMPLE = """
INSERT INTO nav_record (company_id, nav_table, key, integration_id, fields)
SELECT company, nav_table, 'CT' || n, gen_random_uuid(),
       jsonb_build_object('No', 'C' || n, 'Contact_No', 'CT' || n, 'Company_No', 'CT' || n)
FROM generate_series(1, 2) AS company,
     unnest(ARRAY['customers', 'contacts', 'contact-business-relations', 'items', 'salespeople']) AS nav_table,
     generate_series(1, 400) AS n;

INSERT INTO nav_tombstone (company_id, nav_table, integration_id, key)
SELECT company_id, nav_table, integration_id, key FROM nav_record;

INSERT INTO nav_figures (company_id, nav_table, key, figures)
SELECT company_id, nav_table, key, '{}' FROM nav_record;

ANALYZE nav_record, nav_tombstone, nav_figures;

TRUNCATE nav_record, nav_tombstone, nav_figures;

ALTER SEQUENCE nav_row_version RESTART;
"""


def upgrade() -> None:
    op.execute(sa.schema.CreateSequence(sa.Sequence("nav_row_version")))
    op.create_table(
        "nav_record",
        sa.Column("company_id", sa.Integer, autoincrement=False, nullable=False),
        sa.Column("nav_table", sa.Text, nullable=False),
        sa.Column("key", sa.Text(collation="C"), nullable=False),
        sa.Column("integration_id", sa.Uuid),
        sa.Column("fields", postgresql.JSONB, nullable=False),
        sa.Column("row_version", sa.BigInteger, nullable=False),
        sa.Column("modified_at", TIMESTAMP, nullable=False),
        sa.Column("created_at", TIMESTAMP, nullable=False, server_default=sa.func.now()),
        sa.Column("touched", sa.Integer, nullable=False, server_default="0"),
        sa.PrimaryKeyConstraint("company_id", "nav_table", "key", name="nav_record_pkey"),
        sa.UniqueConstraint(
            "company_id",
            "nav_table",
            "integration_id",
            name="nav_record_company_id_nav_table_integration_id_key",
        ),
    )
    op.create_index(
        "nav_record_changes_idx",
        "nav_record",
        ["company_id", "nav_table", "row_version"],
        postgresql_where=sa.text("integration_id IS NOT NULL"),
    )
    op.create_index(
        "nav_record_contact_company_idx",
        "nav_record",
        ["company_id", sa.text("(fields ->> 'Company_No')")],
        postgresql_where=sa.text("nav_table = 'contacts'"),
    )
    for name, field in (("contact", "Contact_No"), ("no", "No")):
        op.create_index(
            f"nav_record_relation_{name}_idx",
            "nav_record",
            ["company_id", sa.text(f"(fields ->> '{field}')")],
            postgresql_where=sa.text("nav_table = 'contact-business-relations'"),
        )
    op.create_table(
        "nav_tombstone",
        sa.Column("company_id", sa.Integer, autoincrement=False, nullable=False),
        sa.Column("nav_table", sa.Text, nullable=False),
        sa.Column("integration_id", sa.Uuid, nullable=False),
        sa.Column("key", sa.Text(collation="C"), nullable=False),
        sa.Column("row_version", sa.BigInteger, nullable=False),
        sa.Column("deleted_at", TIMESTAMP, nullable=False),
        sa.PrimaryKeyConstraint("company_id", "nav_table", "integration_id", name="nav_tombstone_pkey"),
    )
    op.create_index("nav_tombstone_changes_idx", "nav_tombstone", ["company_id", "nav_table", "row_version"])
    op.create_table(
        "nav_number_series",
        sa.Column("company_id", sa.Integer, autoincrement=False, nullable=False),
        sa.Column("nav_table", sa.Text, nullable=False),
        sa.Column("prefix", sa.Text, nullable=False),
        sa.Column("digits", sa.Integer, nullable=False),
        sa.Column("increment", sa.Integer, nullable=False),
        sa.Column("last", sa.BigInteger, nullable=False),
        sa.PrimaryKeyConstraint("company_id", "nav_table", name="nav_number_series_pkey"),
    )
    op.create_table(
        "nav_figures",
        sa.Column("company_id", sa.Integer, autoincrement=False, nullable=False),
        sa.Column("nav_table", sa.Text, nullable=False),
        sa.Column("key", sa.Text(collation="C"), nullable=False),
        sa.Column("figures", postgresql.JSONB, nullable=False),
        sa.PrimaryKeyConstraint("company_id", "nav_table", "key", name="nav_figures_pkey"),
    )
    for statement in (FUNCTIONS + SAMPLE).strip().split("\n\n"):
        op.execute(statement)


def downgrade() -> None:
    for table in ("nav_figures", "nav_number_series", "nav_tombstone", "nav_record"):
        op.drop_table(table)
    for function in ("nav_stamp_record()", "nav_stamp_tombstone()", "nav_settled_version(integer)"):
        op.execute(f"DROP FUNCTION {function}")
    op.execute(sa.schema.DropSequence(sa.Sequence("nav_row_version")))
