"""Who may use whose instances: accounts, roles with policies, and trust between accounts (SPEC 2)."""
