"""The REST interface: the read models as JSON, errors as problem documents. Never anything the pages cannot show."""
