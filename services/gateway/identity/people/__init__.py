"""Who belongs to a workspace: members, invitations and the letters that carry them, what members want to hear of."""
