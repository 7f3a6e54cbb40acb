"""What is measured on generated pictures; each figure is made of sums that can be added up in any split."""
