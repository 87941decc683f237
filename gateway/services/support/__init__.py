"""Commands on conversations, tickets, ticket types and teammates."""
