"""Other people's services: how we sign in with them, ask them and write to them."""
