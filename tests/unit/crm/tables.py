"""An entity made by hand, for tests that need no CRM."""

from app.crm.metadata import CrmTable
from app.domain.records import FieldDefinition, FieldType, TableDefinition

_FIELDS = (
    FieldDefinition("contactid", "Contact", FieldType.GUID, key=True),
    FieldDefinition("lastname", "Last Name", FieldType.TEXT, length=50),
    FieldDefinition("emailaddress1", "Email", FieldType.TEXT, length=100),
    FieldDefinition("creditlimit", "Credit Limit", FieldType.MONEY),
    FieldDefinition("numberofchildren", "No. of Children", FieldType.INTEGER),
    FieldDefinition("donotphone", "Do not allow Phone Calls", FieldType.BOOLEAN),
    FieldDefinition("birthdate", "Birthday", FieldType.DATE),
    FieldDefinition("lastusedon", "Last Used", FieldType.DATETIME),
    FieldDefinition("modifiedon", "Modified On", FieldType.DATETIME, insertable=False, updatable=False),
    FieldDefinition("statecode", "Status", FieldType.OPTION),
    FieldDefinition("ownerid", "Owner", FieldType.LOOKUP, relation=("systemuser", "team")),
    FieldDefinition("owneridtype", "Owner Type", FieldType.ENTITY_NAME, relation=("systemuser", "team")),
    FieldDefinition("new_levelid", "Level", FieldType.LOOKUP, relation=("new_level",)),
    FieldDefinition("parentcustomerid", "Company", FieldType.LOOKUP, relation=("account", "contact")),
)

CONTACT = CrmTable(
    definition=TableDefinition(
        name="contact",
        label="Contact",
        fields={field.name: field for field in _FIELDS},
        primary_key=("contactid",),
        name_field="lastname",
        entity_set="contacts",
    ),
    entity_set="contacts",
    key="contactid",
    navigations={
        ("ownerid", "systemuser"): "ownerid",
        ("ownerid", "team"): "ownerid",
        ("new_levelid", "new_level"): "new_LevelId",
        ("parentcustomerid", "account"): "parentcustomerid_account",
        ("parentcustomerid", "contact"): "parentcustomerid_contact",
    },
    entity_sets={
        "systemuser": "systemusers",
        "team": "teams",
        "account": "accounts",
        "contact": "contacts",
        "new_level": "new_levels",
    },
    guards_versions=True,
)
