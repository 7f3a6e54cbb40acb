"""The commands of training and generating, a file each."""
