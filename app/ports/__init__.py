"""What the use cases need from outside, and the words everyone uses.

SIDE       NAV or CRM. Both keep the same contract, `RecordStore`.
RECORD     a row of a NAV table or of a CRM entity. One record is a set of one.
SNAPSHOT   a record as one side showed it at one moment.
VERSION    changes whenever the record does: the NAV row version, the CRM etag.
INTEGRATION ID  the GUID by which a NAV record is known across renames.
COUPLING   the pair of ids that says "these two records are the same thing".
BASE       the values both sides agreed on when we last synchronized them.
WATERMARK  up to where the changes of one side have been read and safely recorded. Opaque text.
RUN        one synchronization in one direction; a synch job holds one or two.
RESERVED   a coupling whose partner may not exist yet: its id is chosen and saved before it is written.
WAITING    a record that cannot be transferred until one it refers to is coupled; RELEASED once that is.
BREAKER    stops the jobs of a connection whose user CRM refuses, until it lets us in again.
COMPANION  a CRM row that goes along with a record: the price of a product, the unit of a unit group.
"""

from app.ports.breakers import Breakers, CompanyBreaker
from app.ports.callers import ApiKeys, Arrival, IdempotencyKeys, Reception, RefusedLogins, StoredAnswer
from app.ports.figures import ProcessFigures, ServiceFigures
from app.ports.jobs import (
    TICKET,
    CompanyEntry,
    CompanyJob,
    FailureSummary,
    JobFilter,
    JobQueue,
    LoggedOutcome,
    SynchJobs,
    SynchLog,
    Watch,
    Watches,
    Workers,
    WorkerSeen,
)
from app.ports.memory import (
    Companies,
    Connections,
    Couplings,
    Mappings,
    OptionMappings,
    StoredMapping,
    Wait,
    WaitingRecords,
)
from app.ports.sharing import Remembered, Together
from app.ports.sides import (
    Clock,
    ConnectionReport,
    CrmSide,
    Delete,
    Insert,
    Listing,
    NavRecord,
    NavSide,
    Page,
    RecordStore,
    Refused,
    SideFactory,
    TestStep,
    Update,
    Write,
    Written,
)
from app.ports.work import (
    Cancelled,
    Context,
    Draining,
    Fenced,
    Handler,
    JobStopped,
    Report,
    Transaction,
    UnitOfWork,
)

__all__ = [
    "TICKET",
    "ApiKeys",
    "Arrival",
    "Breakers",
    "Cancelled",
    "Clock",
    "Companies",
    "CompanyBreaker",
    "CompanyEntry",
    "CompanyJob",
    "ConnectionReport",
    "Connections",
    "Context",
    "Couplings",
    "CrmSide",
    "Delete",
    "Draining",
    "FailureSummary",
    "Fenced",
    "Handler",
    "IdempotencyKeys",
    "Insert",
    "JobFilter",
    "JobQueue",
    "JobStopped",
    "Listing",
    "LoggedOutcome",
    "Mappings",
    "NavRecord",
    "NavSide",
    "OptionMappings",
    "Page",
    "ProcessFigures",
    "Reception",
    "RecordStore",
    "Refused",
    "RefusedLogins",
    "Remembered",
    "Report",
    "ServiceFigures",
    "SideFactory",
    "StoredAnswer",
    "StoredMapping",
    "SynchJobs",
    "SynchLog",
    "TestStep",
    "Together",
    "Transaction",
    "UnitOfWork",
    "Update",
    "Wait",
    "WaitingRecords",
    "Watch",
    "Watches",
    "WorkerSeen",
    "Workers",
    "Write",
    "Written",
]
