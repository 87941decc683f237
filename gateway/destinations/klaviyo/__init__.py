"""The Klaviyo destination: mapping, client, rate limits and batches."""
