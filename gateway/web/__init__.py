"""What people see of the gateway in a browser, served from the package."""
