"""Files in and out: imports, exports, rows and columns."""
