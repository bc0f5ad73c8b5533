"""The service with a worker and a CRM over HTTP, as the tests of the five pages have it."""

from tests.seeds.conftest import at_work, crm, organization, service, set_up

__all__ = ["at_work", "crm", "organization", "service", "set_up"]
