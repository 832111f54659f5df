"""Typed doors to Linux, standard library only: one file for each kernel feature.

Relied upon: pidfd_open (5.3), close_range (5.9), mount_setattr (5.12), Landlock (5.13). Nothing here decides policy;
each function does one thing, raises `OSError` with a cause when the kernel refuses, and keeps the kernel's own words.
"""
