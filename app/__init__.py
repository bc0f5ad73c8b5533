"""navcrm: keeps Dynamics NAV and Dynamics CRM telling the same story."""
