"""The application of Django that django_orm.py plays."""
