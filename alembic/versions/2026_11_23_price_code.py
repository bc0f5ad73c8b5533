"""The prices of a group are found without reading all there are: a list of groups names the currency of each."""

from alembic import op

revision = "price_code_0001"
down_revision = "mapping_edition_0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute(
        "CREATE INDEX nav_record_price_code_idx ON nav_record (company_id, (fields ->> 'Sales_Code')) "
        "WHERE nav_table = 'sales-prices'"
    )


def downgrade() -> None:
    op.drop_index("nav_record_price_code_idx", table_name="nav_record")
