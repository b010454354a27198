"""Hosted connect: pages on which your users give access to their calendars, without your application seeing a token."""
