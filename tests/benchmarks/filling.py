"""Coupled records in large numbers, without running a load: one is made by the service, the others are copies of it.

Everything that differs from record to record (number, name, street, telephone, e-mail, ids, versions) is written into
the copies, on both sides and in the coupling, so that a full run finds them all as they were agreed on.
"""

import asyncpg

from app.demo.service import Company
from tests.benchmarks.loads import company_id
from tests.benchmarks.world import Running

MODEL = 7_654_321
"""The number of the account that is copied; the copies have numbers of as many digits, from FIRST on."""
FIRST = 1_000_000
MOST = 1_000_000
CHUNK = 100_000
COPIES = """
    WITH record AS (
        INSERT INTO nav_record (company_id, nav_table, key, integration_id, fields)
        SELECT model.company_id, model.nav_table, replace(replace(model.key, $3, 'KT' || n), $2, 'K' || n),
               CASE model.nav_table WHEN 'customers' THEN md5('account' || n)::uuid
                                    WHEN 'contacts' THEN (to_char($1::integer, 'FM00000000') || '-0000-7000-8000-'
                                                          || to_char(n, 'FM000000000000'))::uuid END,
               replace(replace(replace(replace(model.fields::text, $3, 'KT' || n), $2, 'K' || n),
                               '7654321', n::text), '020 7946 4321', '020 7946 ' || right(n::text, 4))::jsonb
        FROM nav_record AS model, generate_series($4::bigint, $5::bigint) AS n
        WHERE model.company_id = $1
          AND (model.nav_table, model.key) IN (('customers', $2), ('contacts', $3),
                                               ('contact-business-relations', $3 || ',CUST'))
        RETURNING nav_table, key, integration_id, row_version)
    INSERT INTO coupling (id, company_id, mapping, nav_table, nav_id, nav_key, crm_entity, crm_id, status, base,
                          edition, nav_version, crm_version, last_synch_at, last_synch_action, last_synch_result)
    SELECT (to_char($1::integer, 'FM00000000') || '-0000-7000-8000-' || to_char(n, 'FM000000000000'))::uuid,
           model.company_id, model.mapping, model.nav_table, record.integration_id, record.key, model.crm_entity,
           record.integration_id, model.status,
           replace(replace(model.base::text, '7654321', n::text),
                   '020 7946 4321', '020 7946 ' || right(n::text, 4))::jsonb,
           model.edition, record.row_version::text,
           regexp_replace(model.crm_version, '[0-9]+', ($6::bigint + n - $4::bigint)::text),
           model.last_synch_at, model.last_synch_action, model.last_synch_result
    FROM record, substr(record.key, 2) AS digits, CAST(digits AS bigint) AS n, coupling AS model
    WHERE record.nav_table = 'customers' AND model.company_id = $1 AND model.nav_key = $2
    """
"""A customer that came from CRM has the id that it has there."""
Connection = asyncpg.Connection


def coupled(running: Running, count: int) -> Company:
    """A company with so many coupled customers and accounts, up to MOST, nobody of whom changed since."""
    world = running.world
    world.empty_crm()
    company = running.without_schedule(running.company())
    world.tell_crm("fill", count=1, first=MODEL)
    job = running.run(company, mode="full", direction="from_crm", create_uncoupled=True)
    if job["inserted"] != 1:
        raise RuntimeError("The account that is to be copied did not arrive.")
    customer, contact = (company.items(f"nav/{table}")[0]["no"] for table in ("customers", "contacts"))
    version = world.tell_crm("fill", count=count, first=FIRST)["version"]
    number = company_id(world, company)

    async def fill(connection: "Connection[asyncpg.Record]") -> None:
        for start in range(FIRST, FIRST + count, CHUNK):
            last = min(start + CHUNK, FIRST + count) - 1
            await connection.execute(COPIES, number, customer, contact, start, last, version + start - FIRST)
        await connection.execute("VACUUM ANALYZE nav_record")
        await connection.execute("VACUUM ANALYZE coupling")

    world.sql(fill)
    return company
