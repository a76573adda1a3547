"""The SQL database that jobs and the store may share: connections, errors in our words, the tables'
version.
"""
