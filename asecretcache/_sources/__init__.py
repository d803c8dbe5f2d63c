"""Where secrets come from: the protocol of a source, and the sources over AWS Secrets Manager."""
