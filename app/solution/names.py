"""Names and ids of what the solution brings into CRM.

The ids are those of the components in every organization that imported the solution: they never change, or an
update would make a second button, form or role beside the first.
"""

from typing import Final

PREFIX: Final = "navcrm"
SOLUTION: Final = "NavCrmIntegration"
SOLUTION_TITLE: Final = "Dynamics NAV Integration (navcrm)"
PUBLISHER: Final = "navcrm"
OPTION_VALUE_PREFIX: Final = 61437
LANGUAGE: Final = 1033
INTRODUCED: Final = "0.1.0.0"

STATISTICS: Final = f"{PREFIX}_accountstatistics"
CONNECTION: Final = f"{PREFIX}_connection"
LOOKUP: Final = f"{PREFIX}_accountstatisticsid"
RELATIONSHIP: Final = f"{PREFIX}_{STATISTICS}_account"

SCRIPT: Final = f"{PREFIX}_/opennav.js"
CHOICE_PAGE: Final = f"{PREFIX}_/opennav.html"
ICON: Final = f"{PREFIX}_/opennav.svg"

SCRIPT_ID: Final = "4458d55a-1c58-4977-97ed-9d644496b774"
CHOICE_PAGE_ID: Final = "c5816e95-823d-49c6-93f3-4659f2085a54"
ICON_ID: Final = "e1c36a4c-058d-44fc-b5d4-1ab1db3b2512"

ADMINISTRATOR: Final = "NAV CRM Integration Administrator"
USER: Final = "NAV CRM Integration User"
ADMINISTRATOR_ID: Final = "7bb0e622-2a36-487d-87e8-06d15287c24e"
USER_ID: Final = "9364983f-99f3-4802-90d8-40e88655fabb"

STATISTICS_QUICK_FORM_ID: Final = "6ff75e7d-526b-4ba9-837f-cb6df4377b90"
STATISTICS_FORM_ID: Final = "c528383c-e94f-4092-92bd-f15459eaf65e"
CONNECTION_FORM_ID: Final = "ebcbcdc4-8cc4-4df1-ae71-db2367eea0b1"

VIEW_IDS: Final = {
    (STATISTICS, 0): "ae7e21b1-f53c-4814-acfb-e2cf2e30e096",
    (STATISTICS, 1): "bf96e642-7f51-481d-8274-6fbe6c9c6166",
    (STATISTICS, 2): "a4af4d86-67dd-4224-bda0-1200d698f6f0",
    (STATISTICS, 4): "455647bc-6c62-4034-9630-8042f3192a8c",
    (STATISTICS, 64): "0feb3f0a-66a9-4fd2-8630-32090a69cec2",
    (CONNECTION, 0): "7ffc8d0f-e1d2-4f53-8557-5bef102f92b6",
    (CONNECTION, 1): "06a7d234-2dd6-4c8d-95f6-c3c83be24ad1",
    (CONNECTION, 2): "83a5eb5a-a706-4d03-b877-142810474a34",
    (CONNECTION, 4): "51a4fb4c-f2e6-4460-8341-db535e81a27c",
    (CONNECTION, 64): "f9b2d53a-e6db-42b1-85a1-3370d4a9cc78",
}
"""By table and query type."""

CELLS: Final = "7f411889-962b-4200-9d1f-ecd48945198f"
"""The namespace from which tabs, sections and cells of the forms get their ids, by name."""
