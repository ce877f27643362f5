"""Plain frozen values of dentistry and of this program; standard library only."""
