"""The only part of the C back end that needs torch and a compiler."""
