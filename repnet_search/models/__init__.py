"""The frozen backbone and the Rep-Net as torch modules."""
