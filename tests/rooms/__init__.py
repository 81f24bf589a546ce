"""Tests of the rooms: on virtual time where they wait, on real sockets and files where they touch the world."""
