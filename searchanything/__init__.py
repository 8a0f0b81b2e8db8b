"""Search Anything: find every image that holds a region like this one."""
