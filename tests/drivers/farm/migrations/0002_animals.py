from django.contrib.postgres.fields import ArrayField, IntegerRangeField
from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("farm", "0001_herds")]
    operations = [
        migrations.AddField("Herd", "size", models.PositiveIntegerField(default=0)),
        migrations.CreateModel(
            "Animal",
            [
                ("token", models.UUIDField(primary_key=True)),
                ("herd", models.ForeignKey("farm.Herd", models.CASCADE, related_name="animals")),
                ("friends", models.ManyToManyField("farm.Animal")),
                ("born", models.DateTimeField()),
                ("day", models.DateField(null=True)),
                ("price", models.DecimalField(max_digits=6, decimal_places=2)),
                ("about", models.JSONField(default=dict)),
                ("marks", ArrayField(models.TextField(), default=list)),
                ("years", IntegerRangeField(null=True)),
                ("photo", models.BinaryField(null=True)),
                ("fed", models.DurationField(null=True)),
            ],
        ),
        migrations.AddIndex("Animal", models.Index(fields=["born"], name="animal_born")),
        migrations.AlterField("Animal", "price", models.DecimalField(max_digits=8, decimal_places=2)),
        migrations.AddConstraint(
            "Animal", models.CheckConstraint(condition=models.Q(price__gte=0), name="no_debt")
        ),
    ]
