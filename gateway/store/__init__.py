"""MongoDB and nothing else: the driver seam, repositories bound to one workspace, indexes, migrations, the embedded server."""
