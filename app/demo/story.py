"""The story: a NAV company and a CRM get to know each other, and stay in step."""

from collections.abc import Mapping
from typing import Any

from app.demo import cronus, expectations
from app.demo.dataverse import Crm, Login
from app.demo.jobs import Job, synchronize, table_row
from app.demo.screen import Screen
from app.demo.service import Company, Service, nav_path
from app.demo.trouble import require

COMPANY = "cronus"
KEY_NAME = "navcrm demo"
MAPPINGS = ("CURRENCY", "SALESPEOPLE", "CUSTOMER", "CONTACT")
CRITERIA: Mapping[str, list[dict[str, Any]]] = {
    "CURRENCY": [{"nav_field": "Code", "crm_attribute": "isocurrencycode"}],
    # Upper and lower case count: one salesperson has another's address in capitals, and only one can be the user.
    "SALESPEOPLE": [{"nav_field": "E_Mail", "crm_attribute": "internalemailaddress", "ignore_case": False}],
    "CUSTOMER": [
        {"nav_field": "No", "crm_attribute": "accountnumber", "priority": 1},
        {"nav_field": "Name", "crm_attribute": "name", "priority": 2},
    ],
    "CONTACT": [{"nav_field": "E_Mail", "crm_attribute": "emailaddress1"}],
}
"""By what records of both sides are recognized as the same thing."""


class Story:
    """Tells the story through the REST API of the service and the Web API of the CRM, as an outsider would."""

    def __init__(self, screen: Screen, service_url: str, admin_key: str, login: Login) -> None:
        self.screen = screen
        self.login = login
        self._bootstrap = Service(service_url, admin_key)
        self.crm = Crm(login)
        self.key = self._new_key()
        self.service = Service(service_url, self.key)
        self.company = Company(self.service, COMPANY)

    def close(self) -> None:
        """Ends the connections."""
        self._bootstrap.close()
        self.service.close()
        self.crm.close()

    def tell(self) -> None:
        """The whole of it. Raises DemoFailed as soon as something is not as the data says it must be."""
        self.nav()
        self.both_know_each_other()
        jobs = self.everything()
        self.what_a_person_decides()
        self.a_missing_user_comes()
        self.primary_contacts_follow()
        self.a_change_on_either_side()
        self.what_each_side_tells_the_other()
        self.closing(jobs)

    def _new_key(self) -> str:
        """A key for the reader of the demo; those of earlier runs stop working."""
        for key in self._bootstrap.items("/api-keys"):
            if key["name"] == KEY_NAME:
                self._bootstrap.call("DELETE", f"/api-keys/{key['id']}")
        key = self._bootstrap.call("POST", "/api-keys", {"name": KEY_NAME, "scopes": ["admin"]})
        return str(key["key"])

    # --- both sides before --------------------------------------------------------------------------------

    def nav(self) -> None:
        """The company with its records, anew: the sandbox has forgotten the CRM of an earlier run."""
        self.screen.title("The two sides")
        self.service.call("DELETE", self.company.path, also=(404,))
        about = {
            "name": COMPANY,
            "display_name": "CRONUS International Ltd.",
            "local_currency": "GBP",
            "nav_web_client_url": "http://localhost:8080/DynamicsNAV110/WebClient",
        }
        self.service.call("POST", "/companies", about)
        total = 0
        for table in cronus.NAV_TABLES:
            definition = self.company.get(f"nav-tables/{table}")
            total += self.company.load(table, cronus.nav_records(table, definition))
            if table == "currencies":
                total += self.company.load("currency-exchange-rates", cronus.exchange_rates())
            if table == "customers":
                self.company.load(table, cronus.customer_figures(definition))
        customers = len(self.company.items("nav/customers"))
        require("customers in NAV", customers, len(cronus.cronus()["Customer"]))
        self.screen.say(
            f"NAV: the company CRONUS International Ltd. with {total:,} records, {customers} customers."
        )
        rows = cronus.crm_rows()
        for entity_set, found in rows.rows.items():
            self.crm.create(entity_set, found)
        for quote in rows.rows["quotes"]:
            self.crm.change("quotes", str(quote["quoteid"]), {"statecode": 1, "statuscode": 3})  # active
        self.screen.say(
            f"CRM: {rows.total} rows, {len(rows.rows['accounts'])} accounts, {len(rows.rows['systemusers'])} users; "
            "about half of the customers are there already."
        )

    def both_know_each_other(self) -> None:
        """Connection, default synchronization setup, and the couplings that the data suggests."""
        self.screen.title("Connecting and coupling")
        login = self.login
        self.company.put(
            "crm-connection",
            {
                "server_url": login.server_url,
                "authentication": {
                    "type": "client_secret",
                    "tenant_id": login.tenant_id,
                    "client_id": login.client_id,
                    "client_secret": login.client_secret,
                    "authority": login.server_url,
                },
            },
        )
        enabled = self.company.patch("crm-connection", {"is_enabled": True})
        require("the connection's status", enabled["status"], "connected")
        setup = self.company.post("crm-connection/use-default-synchronization-setup", {})
        for entry in self.company.items("job-queue-entries"):
            self.company.post(f"job-queue-entries/{entry['id']}/hold")  # the story sets the pace
        self.screen.say(
            f"Connected to Dynamics {enabled['crm_version']}; the default setup made "
            f"{setup['integration_table_mappings']} table mappings with {setup['integration_field_mappings']} "
            f"fields and {setup['job_queue_entries']} jobs, and gave "
            f"{sum(setup['integration_ids_generated'].values()):,} records their integration ids."
        )
        expected = {
            "CURRENCY": len(cronus.crm_rows().rows["transactioncurrencies"]),
            "SALESPEOPLE": len(cronus.users()),
            "CUSTOMER": len(cronus.known_customers()),
            "CONTACT": len(cronus.known_contacts()),
        }
        for mapping in MAPPINGS:
            found = self.company.post(
                f"integration-table-mappings/{mapping}/match", {"criteria": CRITERIA[mapping]}
            )
            fields = " or ".join(criterion["nav_field"] for criterion in CRITERIA[mapping])
            self.screen.say(
                f"{mapping}: {len(found['coupled'])} coupled by {fields}, {found['unmatched']} without a match."
            )
            require(f"{mapping} records matched", len(found["coupled"]), expected[mapping])

    # --- synchronization ----------------------------------------------------------------------------------

    def everything(self) -> dict[str, Job]:
        """A full synchronization both ways, in the order in which the tables depend on each other."""
        self.screen.title("Synchronizing everything, both ways; what has no partner gets one")
        jobs = synchronize(self.screen, self.company, "full", MAPPINGS, create_uncoupled=True)
        expectations.check(self.company, self.crm, jobs)
        return jobs

    def what_a_person_decides(self) -> None:
        """Fields that both sides filled differently are left alone until somebody chooses a side."""
        self.screen.title("What nobody but a person can decide")
        for customer, direction in zip(cronus.CLASHING, ("to_crm", "from_crm"), strict=True):
            path = nav_path("customers", customer)
            compared = self.company.get(f"{path}/coupling/comparison")["fields"]
            phone = next(field for field in compared if field["nav_field"] == "Phone_No")
            result = self.company.post(f"{path}/synchronize", {"direction": direction})
            require(f"Synchronize Now for customer {customer}", result["action"], "modified")
            winner = phone["nav_value"] if direction == "to_crm" else phone["crm_value"]
            self._same_phone(customer, winner)
            self.screen.say(
                f"Customer {customer}: NAV said {phone['nav_value']}, CRM {phone['crm_value']}; "
                f"Synchronize Now, {direction}: both say {winner}."
            )

    def a_missing_user_comes(self) -> None:
        """A failure is mended with the calls that its error names."""
        self.screen.title("Mending a failure")
        salesperson, customer = "EXT1", "60006"
        user = cronus.user_row(salesperson)
        self.crm.create("systemusers", [user])
        self.company.put(f"{nav_path('salespeople', salesperson)}/coupling", {"crm_id": user["systemuserid"]})
        result = self.company.post(f"{nav_path('customers', customer)}/create-in-crm", {})
        require(f"creating customer {customer} in CRM", result["action"], "inserted")
        self.screen.say(
            f"CRM has a user for salesperson {salesperson} now: PUT …/nav/salespeople/{salesperson}/coupling, then "
            f"POST …/nav/customers/{customer}/create-in-crm: {result['message']}."
        )

    def primary_contacts_follow(self) -> None:
        """Customers come before their contacts: the next run tells the accounts who their primary contact is."""
        self.screen.title("What waited for the contacts")
        synchronize(self.screen, self.company, "modified", ["CUSTOMER"], create_uncoupled=False)
        customer = cronus.SHOWCASE
        contact = self.company.get(nav_path("customers", customer))["fields"]["Primary_Contact_No"]
        person = self.company.get(f"{nav_path('contacts', contact)}/coupling")["crm_id"]
        account = self.crm.read("accounts", self._account(customer))
        require("the primary contact of the account", account["_primarycontactid_value"], person)
        self.screen.say(f"The account of customer {customer} has its primary contact, {contact}, now.")

    def a_change_on_either_side(self) -> None:
        """A change in NAV, one in CRM, and one record changed on both sides; the next run carries each across."""
        self.screen.title("A change on either side")
        in_nav, in_crm, in_both = "20000", "30000", "50000"
        self.company.patch(nav_path("customers", in_nav), {"fields": {"Phone_No": "+44 21 555 2007"}})
        self.crm.change("accounts", self._account(in_crm), {"telephone1": "+1 (425) 555-0199"})
        self.company.patch(nav_path("customers", in_both), {"fields": {"Address_2": "Unit 7"}})
        self.crm.change("accounts", self._account(in_both), {"fax": "+44 24 555 1029"})
        job = synchronize(self.screen, self.company, "modified", ["CUSTOMER"], create_uncoupled=False)[
            "CUSTOMER"
        ]
        self._same_phone(in_nav, "+44 21 555 2007")
        self._same_phone(in_crm, "+1 (425) 555-0199")
        fields = self.company.get(nav_path("customers", in_both))["fields"]
        account = self.crm.read("accounts", self._account(in_both))
        require("the fax number set in CRM", fields["Fax_No"], "+44 24 555 1029")
        require("the address set in NAV", account["address1_line2"], "Unit 7")
        outcomes = self.company.items(f"synch-jobs/{job['id']}/outcomes", result="modified")
        written = {
            (outcome["direction"], outcome["nav_no"])
            for outcome in outcomes
            if outcome["nav_no"] not in cronus.CLASHING  # their other fields follow their phone number
        }
        changed = {("to_crm", in_nav), ("from_crm", in_crm), ("to_crm", in_both), ("from_crm", in_both)}
        require("the records written", written, changed)
        self.screen.say(
            f"Phone of {in_nav} changed in NAV, of {in_crm} in CRM; {in_both} changed on both sides, in different "
            "fields: all four changes arrived."
        )

    def what_each_side_tells_the_other(self) -> None:
        """The figures of sales on the customer, the figures of NAV on the account."""
        self.screen.title("Statistics")
        path = nav_path("customers", cronus.SHOWCASE)
        figures = self.company.get(f"{path}/crm-statistics")
        names = {"opportunities": "opportunities", "quotes": "quotes", "incidents": "cases"}
        found = {entity_set: figures[name] for entity_set, name in names.items()}
        require(f"the CRM statistics of customer {cronus.SHOWCASE}", found, cronus.OPEN_SALES)
        told = ", ".join(f"{names[entity_set]} {number}" for entity_set, number in found.items())
        actions = [self.company.post(f"{path}/update-account-statistics")["action"] for _ in range(2)]
        require("updating account statistics twice", actions, ["inserted", "unmodified"])
        account = self.crm.read("accounts", self._account(cronus.SHOWCASE))
        row = self.crm.read("nav_accountstatisticses", account["_nav_accountstatisticsid_value"])
        balance = cronus.balance_of(cronus.SHOWCASE)
        require("the balance in CRM", float(row["nav_balancelcy"]), balance)
        self.screen.say(
            f"Customer {cronus.SHOWCASE} in CRM: {told}. Its account there shows its balance in NAV, £{balance:,.2f}."
        )

    def _account(self, customer: str) -> str:
        return str(self.company.get(f"{nav_path('customers', customer)}/coupling")["crm_id"])

    def _same_phone(self, customer: str, number: str) -> None:
        fields = self.company.get(nav_path("customers", customer))["fields"]
        account = self.crm.read("accounts", self._account(customer))
        require(f"the phone of customer {customer} in NAV", fields["Phone_No"], number)
        require(f"the phone of customer {customer} in CRM", account["telephone1"], number)

    # --- the end ------------------------------------------------------------------------------------------

    def closing(self, jobs: Mapping[str, Job]) -> None:
        """The table, the failures explained, and what to try next."""
        self.screen.table("What became of it", [table_row(self.company, jobs[name]) for name in MAPPINGS])
        self._explain(jobs)
        self.screen.title(f"Done in {self.screen.seconds:.1f} s")
        url, api = self.service.url, f"{self.service.url}/api/v1{self.company.path}"
        self.screen.raw(f"  documentation  {url}/docs")
        self.screen.raw(f"  OpenAPI        {url}/openapi.json")
        self.screen.raw(f"  sandbox CRM    {self.login.server_url}/api/data/v9.2")
        self.screen.raw(f"  API key        {self.key}")
        self.screen.raw("\nTry:\n")
        header = f'-H "Authorization: Bearer {self.key}"'
        customer = f"{api}/nav/customers/{cronus.SHOWCASE}"
        self.screen.raw(f"curl -s {header} {customer}")
        body = """-H "Content-Type: application/json" -d '{"direction": "to_crm", "preview": true}'"""
        self.screen.raw(f"curl -s {header} {body} {customer}/synchronize")
        self.screen.raw(f'curl -s {header} "{api}/synch-errors?code=salesperson-not-coupled&limit=3"')

    def _explain(self, jobs: Mapping[str, Job]) -> None:
        """Why records failed or were left out: one example of each reason, and the call that mends it."""
        self.screen.title("What failed, as it should, and what mends it")
        for name in MAPPINGS:
            errors = self.company.items(f"synch-jobs/{jobs[name]['id']}/errors")
            for code in dict.fromkeys(error["code"] for error in errors):
                records = sorted({str(error["nav_no"]) for error in errors if error["code"] == code})
                example = next(error for error in reversed(errors) if error["code"] == code)
                self.screen.say(f"{name}: {code} ({', '.join(records)}). {EXPLAINED[code]}")
                self.screen.say(f"    {example['nav_no']}: {example['message']}")
                self.screen.say(f"    {example['fix']}")
            if jobs[name]["skipped"]:
                left_out = self.company.items(f"synch-jobs/{jobs[name]['id']}/outcomes", result="skipped")
                self.screen.say(
                    f"{name}: {len(left_out)} left out, as {left_out[0]['nav_no']}: {left_out[0]['message']}"
                )

    def set_jobs_ready(self) -> None:
        """From here on the job queue keeps both sides in step by itself."""
        for entry in self.company.items("job-queue-entries"):
            self.company.post(f"job-queue-entries/{entry['id']}/ready")
        self.screen.say(
            "The scheduled jobs are ready: from now on a change on either side arrives by itself, within seconds."
        )


EXPLAINED = {
    "salesperson-not-coupled": "CRM needs an owner, and these salespeople are no CRM users.",
    "update-conflict": "Both sides say something else; seen from each side, so counted twice. Mended above.",
}
"""Why the failures of the story are right."""
