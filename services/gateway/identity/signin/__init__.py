"""Signing in through an identity provider, by browser (OpenID Connect, authorization code with PKCE)."""
