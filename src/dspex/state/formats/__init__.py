"""The file formats of a state, a family of interchangeable parts: each turns an envelope into bytes and back."""
