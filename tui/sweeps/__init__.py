"""What is found out for a preset by trying: the batch that fits, the learning rate that learns best."""
