"""Microsoft Graph v1.0: Outlook calendars of Microsoft 365 and of personal accounts, behind the port."""
