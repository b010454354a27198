"""Stand-ins of the back ends that bring bots into meetings: three façades over one book of bots."""
