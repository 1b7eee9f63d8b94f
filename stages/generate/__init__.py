"""Samples: n solutions per problem from the iteration's model, each with a seed of its own."""
