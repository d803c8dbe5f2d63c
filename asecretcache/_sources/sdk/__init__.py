"""The source over the AWS SDK."""
