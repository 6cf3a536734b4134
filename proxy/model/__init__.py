"""The words of the house: what every floor above may say. No network, no foreign library but multidict."""
