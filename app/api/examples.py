"""A body for every operation that takes one, as the OpenAPI document shows it.

With the company that `navcrm demo` makes each of them means something. Ids that the service gives out are the caller's
to fill in.
"""

from collections.abc import Mapping
from typing import Any, Final

ACCOUNT_OF_10000: Final = "c8776e4c-be0e-5d86-b661-8a4061dca9d9"
ACCOUNT_OF_30000: Final = "3cafa8d7-0733-5dbd-97ee-ab8842f3e42f"
FOURTH_COFFEE: Final = "fc41c882-a24f-51e6-9af4-47051bc2d7cf"
LITWARE: Final = "d32190a5-f2d7-56a9-8819-87f3b9f27004"
_LOGIN: Final = {
    "type": "client_secret",
    "tenant_id": "11111111-2222-4333-8444-555555555555",
    "client_id": "66666666-7777-4888-9999-aaaaaaaaaaaa",
    "client_secret": "as it is shown once in Entra ID",
}
_CUSTOMER: Final = {"Name": "Adatum Corporation", "City": "Manchester", "Salesperson_Code": "PS"}
_PREVIEW: Final = {"preview": True}

BODIES: Final[Mapping[str, Any]] = {
    "create_company": {
        "name": "cronus",
        "display_name": "CRONUS International Ltd.",
        "nav": {"kind": "embedded"},
        "nav_web_client_url": "https://nav.cronus.example:8080/DynamicsNAV110",
        "local_currency": "GBP",
    },
    "create_api_key": {"name": "web shop", "scopes": ["read", "sync"], "companies": ["cronus"]},
    "change_company": {"display_name": "CRONUS International Ltd."},
    "replace_crm_connection": {"server_url": "https://cronus.crm4.dynamics.com", "authentication": _LOGIN},
    "change_crm_connection": {"is_enabled": True},
    "use_default_synchronization_setup": {"replace_existing": True, "preview": True},
    "generate_integration_ids": _PREVIEW,
    "create_integration_table_mapping": {
        "name": "SUPPLIER",
        "nav_table": "customers",
        "crm_entity": "account",
        "direction": "to_crm",
        "nav_filter": "Country_Region_Code eq 'US'",
        "depends_on": ["SALESPEOPLE"],
        "fields": [{"nav_field": "Name", "crm_attribute": "name", "direction": "to_crm"}],
    },
    "change_integration_table_mapping": {"nav_filter": "Blocked eq ' '"},
    "import_integration_table_mappings": {
        "format": "navcrm-integration-table-mappings",
        "version": 1,
        "mappings": [
            {
                "name": "CUSTOMER",
                "nav_table": "customers",
                "crm_entity": "account",
                "direction": "bidirectional",
                "fields": [{"nav_field": "Name", "crm_attribute": "name", "direction": "bidirectional"}],
            }
        ],
    },
    "create_integration_field_mapping": {
        "nav_field": "Home_Page",
        "crm_attribute": "websiteurl",
        "direction": "bidirectional",
        "preview": True,
    },
    "change_integration_field_mapping": {"status": "disabled"},
    "synchronize_integration_table_mapping": {"mode": "modified"},
    "synchronize_company": {"mode": "modified", "mappings": ["SALESPEOPLE", "CUSTOMER"]},
    "match_integration_table_mapping": {
        "criteria": [{"nav_field": "Name", "crm_attribute": "name"}],
        "preview": True,
    },
    "uncouple_integration_table_mapping": _PREVIEW,
    "create_nav_record": {"fields": _CUSTOMER},
    "write_nav_records": {
        "records": [{"no": "10000", "fields": {"City": "London"}}, {"fields": _CUSTOMER}],
    },
    "change_nav_record": {"fields": {"City": "London"}},
    "couple_record": {"crm_id": ACCOUNT_OF_10000, "synchronize_after_coupling": "nav_data"},
    "create_in_crm": _PREVIEW,
    "create_in_nav": _PREVIEW,
    "synchronize_record": {"direction": "to_crm"},
    "synchronize_records": {"nos": ["10000", "30000"], "direction": "to_crm"},
    "update_account_statistics": _PREVIEW,
    "create_many_in_nav": {"ids": [FOURTH_COFFEE, LITWARE]},
    "couple_records": {
        "pairs": [
            {"nav_table": "customers", "nav_no": "10000", "crm_id": ACCOUNT_OF_10000},
            {"nav_table": "customers", "nav_no": "30000", "crm_id": ACCOUNT_OF_30000},
        ],
        "synchronize_after_coupling": "nav_data",
    },
    "restore_coupling": _PREVIEW,
    "restore_couplings": {"mapping": "CUSTOMER"},
    "create_job_queue_entry": {
        "description": "CUSTOMER every half hour",
        "mapping": "CUSTOMER",
        "minutes_between_runs": 30,
    },
    "change_job_queue_entry": {"minutes_between_runs": 15},
}
"""By operation id."""
