"""The CRM side of the integration, as a solution file that an administrator imports into Dataverse.

It holds the button "Dynamics NAV" of account, contact and user, the table with the account statistics and its lookup
on account, the table with the connections that the button reads, and two security roles. `build` makes the file.

Element names, their order and their values: deep links and solution, part D.
"""

from app.solution.package import build

__all__ = ["build"]
