"""Warns people: finds what is wrong, tells each cause once in their own messenger, and tells when it is over."""
