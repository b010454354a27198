"""The only code that knows Google or Microsoft; everything else speaks the port in `base`."""
