"""The source over AWS's local providers of secrets."""
