"""The ``ipa`` command and the supervisor behind it. Never logic that another folder should own."""
