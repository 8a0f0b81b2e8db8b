"""What a question gives back: results, receipts, explanations, comparisons."""
