"""Reading what others made: checked before it is believed, bounded before it is unpacked.

Imported by all packages and importing none of them.
"""
