"""The dashboard: what the API tells, as pages that need no other program than a browser."""
