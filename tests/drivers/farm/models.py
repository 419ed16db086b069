from django.contrib.postgres.fields import ArrayField, IntegerRangeField
from django.db import models


class Herd(models.Model):
    name = models.CharField(max_length=40, unique=True)
    size = models.PositiveIntegerField(default=0)


class Animal(models.Model):
    token = models.UUIDField(primary_key=True)
    herd = models.ForeignKey(Herd, models.CASCADE, related_name="animals")
    friends = models.ManyToManyField("self")
    born = models.DateTimeField()
    day = models.DateField(null=True)
    price = models.DecimalField(max_digits=8, decimal_places=2)
    about = models.JSONField(default=dict)
    marks = ArrayField(models.TextField(), default=list)
    years = IntegerRangeField(null=True)
    photo = models.BinaryField(null=True)
    fed = models.DurationField(null=True)

    class Meta:
        indexes = [models.Index(fields=["born"], name="animal_born")]
        constraints = [models.CheckConstraint(condition=models.Q(price__gte=0), name="no_debt")]
