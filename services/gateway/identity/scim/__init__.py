"""SCIM 2.0: the client's directory says who is a member (RFC 7643, RFC 7644)."""
