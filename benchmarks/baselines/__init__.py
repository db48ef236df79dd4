"""The same training outside of our runtime: PyTorch's and ExecuTorch's own."""
