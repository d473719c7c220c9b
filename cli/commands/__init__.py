"""One module for each ``ipa`` command. Never more than reading arguments, calling, and printing."""
