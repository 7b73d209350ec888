"""Work that is asked for now and done later, by whichever process has a hand free."""
