"""The help desk: threads (conversations and tickets), SLAs, teammates."""
