"""compress: makes image models faster and says, measured on the deployed file, what it cost.

Importing this package never imports torch; see :mod:`compress.api` for the Python interface.
"""

__version__ = "0.1.0"
