"""Sums over sites of which nobody learns more than the sum.

    ring, keys   numbers modulo 2^128; keys, streams and seals
    shamir       a secret in shares
    roster       who adds up together
    seat         what a site does and refuses; ledger: which sums it was in
    opening      what the server does

Only this package imports ``cryptography``; it comes with the extra ``secure``.
"""
